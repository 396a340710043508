/* Work of libraries that would touch what is the caller's: its OpenSSL error queue, its signals, its stack. */
#ifndef KMSENV_KMS_APART_H
# define KMSENV_KMS_APART_H

/*
 * Runs a job on a short-lived thread of its own, with all signals blocked, and waits for it. There
 * it counts as being inside a KMS call (kms/guard.h). 0 if there is no thread to be had.
 */
int kmsenv_apart_run(void (*run)(void *arg), void *arg);
/*
 * Runs a job on the caller's thread, if that leaves no trace: its error queue is empty (then it
 * can be emptied again; entries, and the marks on them, could not be put back), and it is not
 * inside an ASYNC job, whose stack is small and may be switched away. Otherwise 0, and the job
 * was not run. A thread costs more CPU than a request on a connection that is up.
 */
int kmsenv_apart_run_here(void (*run)(void *arg), void *arg);
/*
 * Wipes what calls that have returned left below on this thread's stack. Code that never stores a
 * secret there may do so all the same: registers are spilled to it by signal handlers and by the
 * dynamic linker (measured: base64 of a key, from memcpy()'s vector registers).
 */
void kmsenv_apart_wipe_stack(void);

#endif
