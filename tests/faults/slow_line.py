"""A line to a broker on which every byte takes its time, in both directions."""

from __future__ import annotations

import queue
import socket
import threading
import time


class SlowLine:
    """Listens on a port of its own and passes on what comes, ``delay_s`` later."""

    def __init__(self, port: int, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self._behind = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                far = socket.create_connection(("127.0.0.1", self._behind))
                self._sockets.append(far)
            except OSError:
                return
            self._carry(near, far)
            self._carry(far, near)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        waiting: queue.Queue[tuple[float, bytes]] = queue.Queue()

        def read() -> None:
            data = b"."
            while data:
                try:
                    data = source.recv(1 << 18)
                except OSError:
                    data = b""
                waiting.put((time.monotonic() + self.delay_s, data))

        def write() -> None:
            while True:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                try:
                    if not data:
                        target.shutdown(socket.SHUT_WR)
                        return
                    target.sendall(data)
                except OSError:
                    return

        for step in (read, write):
            threading.Thread(target=step, daemon=True).start()

    def close(self) -> None:
        for each in self._sockets:
            each.close()
