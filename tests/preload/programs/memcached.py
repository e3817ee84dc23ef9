"""Drives a memcached: several clients, each with its own keys; every answer is checked."""
import random
import socket
import sys
import threading

ROUNDS, CLIENTS, KEYS = 6000, 4, 400


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=100)
        self.stream = self.socket.makefile("rb")

    def ask(self, text, body=b""):
        self.socket.sendall(text.encode() + b"\r\n" + (body + b"\r\n" if body else b""))
        return self.stream.readline().strip()

    def get(self, key):
        header = self.ask(f"get {key}")
        if header == b"END":
            return None
        value = self.stream.read(int(header.split()[3]) + 2)[:-2]
        assert self.stream.readline().strip() == b"END"
        return value


def work(port, number, failures):
    chance = random.Random(number)
    client = Client(port)
    values = {}
    for _ in range(ROUNDS):
        key = f"{number}:{chance.randrange(KEYS)}"
        action = chance.random()
        if action < 0.4:
            size = chance.choice((1, 30, 100, 1000, 3000, 20000, 400000 if action < 0.01 else 500))
            value = bytes([65 + chance.randrange(26)]) * size
            if client.ask(f"set {key} 0 0 {size}", value) == b"STORED":
                values[key] = value
            else:
                values.pop(key, None)
        elif action < 0.5:
            client.ask(f"delete {key}")
            values.pop(key, None)
        else:
            found = client.get(key)
            if found is not None and found != values.get(key):
                failures.append(key)
    client.socket.close()


def main():
    port = int(sys.argv[1])
    failures = []
    threads = [threading.Thread(target=work, args=(port, i, failures)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client = Client(port)
    print(client.ask("flush_all").decode(), len(failures), "wrong values")
    return 1 if failures else 0


sys.exit(main())
