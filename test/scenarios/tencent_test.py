#!/usr/bin/python3
"""kmsenv under Tencent Cloud KMS: everything that can go wrong there. What all KMSes in the network
have in common is tested against it, too: kms_test.py."""
import backend_tencent
import common
import matrix


class Matrix(matrix.Case):
    backend = backend_tencent.Backend()

    def archive(self, run):
        self.kms.set_state(run.key_id, "Archived")


if __name__ == "__main__":
    common.main()
