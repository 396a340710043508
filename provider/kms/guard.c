#include "kms/guard.h"

static _Thread_local unsigned depth;

void kmsenv_guard_enter(void)
{
    depth++;
}

void kmsenv_guard_leave(void)
{
    depth--;
}

int kmsenv_guard_is_inside(void)
{
    return depth > 0;
}
