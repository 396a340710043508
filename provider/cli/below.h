/*
 * Files of other systems, below a root of their own: absolute paths and links in them begin there, and ".." does not lead
 * out. And files that need not be what they should be: opening one waits for nobody, and reading it comes to an end.
 */
#ifndef KMSENV_CLI_BELOW_H
# define KMSENV_CLI_BELOW_H
# include <stddef.h>
# include <stdio.h>

# define KMSENV_BELOW_FILE_MAX (1024 * 1024)     /* bytes of a file that is read */

/*
 * The path by which a path of that system is reached from here, with no links left in it, into out. root "": the path as
 * it is. What is not there is no error. 0 with errno if it is too long, or links lead in a circle.
 */
int kmsenv_below(const char *root, const char *path, char *out, size_t room);
/* A regular file, to be read. NULL with errno. */
FILE *kmsenv_below_open(const char *root, const char *path);

#endif
