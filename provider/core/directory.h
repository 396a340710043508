/* The directory that a path is in. */
#ifndef KMSENV_CORE_DIRECTORY_H
# define KMSENV_CORE_DIRECTORY_H

/* As open(directory, flags, 0600); -1 with errno. */
int kmsenv_directory_open(const char *path, int flags);
/* A new or renamed name is on disk only when its directory is. 0 with errno. */
int kmsenv_directory_sync(const char *path);

#endif
