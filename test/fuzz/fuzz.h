/* What the fuzz targets share. A property that does not hold ends the process, which libFuzzer reports with the input. */
#ifndef KMSENV_FUZZ_H
# define KMSENV_FUZZ_H
# include <stddef.h>
# include <stdint.h>
# include <stdio.h>
# include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

# define FUZZ_REQUIRE(x) \
    do { \
        if (!(x)) { \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #x); \
            abort(); \
        } \
    } while (0)

#endif
