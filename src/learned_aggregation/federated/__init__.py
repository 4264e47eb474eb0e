"""The federated round and its parts on the clients' side."""
