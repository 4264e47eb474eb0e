"""Devices and processes: meshes, maps over them, several machines."""
