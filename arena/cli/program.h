/*
 * What can be told of a program before it is started: whether a preload will reach it.
 */
#ifndef BERTH_CLI_PROGRAM_H
#define BERTH_CLI_PROGRAM_H

/* Why the dynamic linker will not load the door into this command, as the end of a sentence about
 * it; NULL if nothing speaks against it. The command is looked up as execvp does. */
const char *berth__program_obstacle(const char *command);

#endif
