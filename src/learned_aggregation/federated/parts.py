"""The parts of a round put together, with nothing done where nothing is said."""

from learned_aggregation.federated.compressors.none import none
from learned_aggregation.types import Aggregator, ClientWork, Compressor, Parts, ServerWork, Task


def no_server_work() -> ServerWork:
    """The server does nothing after the aggregation."""
    return ServerWork(lambda params: (), lambda server, update, key: server)


def assemble(
    task: Task,
    clients: ClientWork,
    aggregator: Aggregator,
    *,
    compressor: Compressor | None = None,
    server_work: ServerWork | None = None,
    server_compressor: Compressor | None = None,
) -> Parts:
    """The parts of a round; by default nothing is compressed and the server only aggregates."""
    return Parts(
        task,
        clients,
        compressor or none(),
        aggregator,
        server_work or no_server_work(),
        server_compressor or none(),
    )
