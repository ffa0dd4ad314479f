/*
 * die: leave at once with one line on standard error. Exit status: 1 the load
 * failed (storage errors included), 2 wrong usage, 3 the data is wrong.
 */
#ifndef WTLOAD_DIE_H
#define WTLOAD_DIE_H

enum { EXIT_LOAD = 1, EXIT_USAGE = 2, EXIT_DATA = 3 };

void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void die_errno(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
