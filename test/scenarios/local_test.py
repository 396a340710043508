#!/usr/bin/python3
"""kmsenv under a local key file: the rows of the matrix that need no network."""
import backend_local
import common
import matrix


class Matrix(matrix.Case):
    backend = backend_local.Backend()


if __name__ == "__main__":
    common.main()
