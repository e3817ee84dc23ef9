/*
 * Variables of the environment that configure us.
 */
#ifndef BERTH_OS_ENVIRON_H
#define BERTH_OS_ENVIRON_H

/* The value of a variable; NULL if it is not set, and always NULL in a program with more rights
 * than its user (setuid). Works before libc has set up `environ`, where .preinit_array and the
 * loader call malloc. Any thread, as far as getenv. */
const char *berth__environ_get(const char *name);

#endif
