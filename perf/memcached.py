"""A load for memcached: clients with their own keys, which set, get and delete values of many sizes
and now and then connect anew. It measures nothing."""

import random
import socket
import threading

CLIENTS, KEYS, LIFE = 8, 3000, 400
SIZES = (1, 30, 100, 100, 400, 1000, 3000, 9000, 30_000, 200_000)


class Client:
    """One connection; answers are read, so that the server and the load keep step."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.stream = self.socket.makefile("rb")

    def close(self):
        self.stream.close()
        self.socket.close()

    def ask(self, text, body=b""):
        self.socket.sendall(text.encode() + b"\r\n" + (body + b"\r\n" if body else b""))
        return self.stream.readline().strip()

    def get(self, key):
        header = self.ask(f"get {key}")
        if header.startswith(b"VALUE"):
            self.stream.read(int(header.split()[3]) + 2)
            self.stream.readline()


def work(port, number, rounds, failed):
    chance = random.Random(number)
    client = None
    try:
        for i in range(rounds):
            if i % LIFE == 0:
                if client:
                    client.close()
                client = Client(port)
            key, action = f"{number}:{chance.randrange(KEYS)}", chance.random()
            if action < 0.4:
                size = chance.choice(SIZES)
                client.ask(f"set {key} 0 0 {size}", b"v" * size)
            elif action < 0.5:
                client.ask(f"delete {key}")
            else:
                client.get(key)
        client.close()
    except OSError as error:
        failed.append(error)


def drive(port, rounds):
    """`rounds` requests from each client. OSError if the server hangs up."""
    failed = []
    threads = [threading.Thread(target=work, args=(port, number, rounds, failed))
               for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise OSError(f"memcached: {failed[0]}")
