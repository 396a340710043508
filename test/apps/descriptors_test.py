#!/usr/bin/python3
"""A program that closes all descriptors that it does not know, as daemons do, and opens others in their places, between
two loads of a sealed key: the connection to the KMS and the audit log are not looked for there."""
import apps

PROGRAM = """
import os, select, socket, ssl, sys

def load():
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(sys.argv[1], sys.argv[2])

load()
before = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2}
print("kept", sum(os.path.exists("/proc/self/fd/%d" % fd) for fd in before))
os.closerange(3, 64)
mine = [end for _ in range(8) for end in socket.socketpair()]
known = {end.fileno(): os.fstat(end.fileno()).st_ino for end in mine}
assert before <= known.keys(), (before, known)
for _ in range(2):
    load()
for end in mine:
    if os.fstat(end.fileno()).st_ino != known[end.fileno()]:
        print("another one", end.fileno())
    if select.select([end], [], [], 0)[0]:
        print("written to", end.fileno())
print("done")
"""


class Descriptors(apps.AppCase):
    program = "/usr/bin/python3"
    settings = {"sealed-key-cache": 0}

    def test_closed_by_the_program(self):
        for kind, least in (("local", 1), ("tencent", 3)):
            with self.subTest(kms=kind):
                place = self.place(kind, ["p256"])
                service = place.services[0]
                running = self.run_in(place, [self.program, place.write("program.py", PROGRAM), service.cert, service.key])
                status, lines = running.ended(30), running.output().splitlines()
                self.assertEqual((status, lines[1:]), (0, ["done"]), lines)
                self.assertGreaterEqual(int(lines[0].split()[1]), least)     # there was something to be closed
                self.assertEqual(place.unsealed(), 3)


if __name__ == "__main__":
    apps.main()
