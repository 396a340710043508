/* Completion of command lines in a shell. */
#ifndef KMSENV_CLI_COMPLETE_H
# define KMSENV_CLI_COMPLETE_H
# include "cli/cli.h"

/* argv: NUMBER WORD... Prints what fits, as complete.c tells. Returns the exit status. */
int kmsenv_cli_complete(const KMSENV_COMMAND *const *commands, int argc, char **argv);

#endif
