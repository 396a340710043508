#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include "core/library.h"

int kmsenv_library_find(void *handle, const char *name, void *where)
{
    void *symbol = dlsym(handle, name);

    /* A pointer to a function fits a void * on every system with dlsym(), but C has no conversion. */
    if (symbol != NULL)
        memcpy(where, &symbol, sizeof(symbol));
    return symbol != NULL;
}

static void set_fault(char *fault, size_t room, const char *text)
{
    size_t i;

    snprintf(fault, room, "%s", text);
    for (i = 0; i < room && fault[i] != '\0'; i++)
        if ((unsigned char)fault[i] < 0x20 || (unsigned char)fault[i] >= 0x7f)
            fault[i] = '?';
}

void *kmsenv_library_load(const char *soname, const KMSENV_SYMBOL *symbols, size_t count, char *fault, size_t room)
{
    void *handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    const char *why;
    size_t i;

    if (handle == NULL) {
        why = dlerror();
        set_fault(fault, room, why == NULL ? "no reason given" : why);
        return NULL;
    }
    for (i = 0; i < count; i++) {
        if (!kmsenv_library_find(handle, symbols[i].name, symbols[i].where)) {
            snprintf(fault, room, "%s has no %s", soname, symbols[i].name);
            return NULL;
        }
    }
    return handle;
}
