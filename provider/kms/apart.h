/* Work that must not happen on the caller's thread: libraries that would touch its error queue, its signals, its stack. */
#ifndef KMSENV_KMS_APART_H
# define KMSENV_KMS_APART_H

/*
 * Runs a job on a short-lived thread of its own, with all signals blocked, and waits for it. There
 * it counts as being inside a KMS call (kms/guard.h). 0 if there is no thread to be had.
 */
int kmsenv_apart_run(void (*run)(void *arg), void *arg);

#endif
