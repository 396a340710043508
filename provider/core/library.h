/*
 * Libraries that are loaded when they are first needed and not with this module: most processes
 * never call a KMS, and should not pay for what such calls need (measured: libcurl 4 ms and 4 MiB,
 * cJSON 0.1 ms). Loaded for good, with local symbols.
 */
#ifndef KMSENV_CORE_LIBRARY_H
# define KMSENV_CORE_LIBRARY_H
# include <stddef.h>

typedef struct kmsenv_symbol_st {
    const char *name;
    void *where;         /* points to the pointer to a function that is to be set */
} KMSENV_SYMBOL;

/* The handle, with all the symbols set. NULL, with fault (a sentence, printable) filled, if anything is missing. */
void *kmsenv_library_load(const char *soname, const KMSENV_SYMBOL *symbols, size_t count, char *fault, size_t room);
/* Sets one more symbol of the library or of those it depends on; 0 if there is none. */
int kmsenv_library_find(void *handle, const char *name, void *where);

#endif
