"""One measurement in a process of its own: `python -m benchmarks.device.child FD`; the connection brings its item."""

import importlib
import json
import sys
import traceback
from multiprocessing.connection import Connection

from benchmarks.device.speaker import speaker


def main(number: int) -> None:
    """Measures one item; an error in Python is told, whatever else ends the process is seen from outside."""
    connection = Connection(number)
    order = json.loads(connection.recv_bytes())
    told = {"kind": "end"}
    try:
        measure = importlib.import_module(order["work"]).measure
        measure(order["given"], tuple(order["rows"]), speaker(connection))
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip().splitlines() or ["no message"])[0]
        told = {"kind": "failed", "error": f"{type(error).__name__}: {first[:500]}"}
    connection.send_bytes(json.dumps(told).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
