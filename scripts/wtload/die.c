#include "die.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void
say(const char *format, va_list ap, const char *cause)
{
	char line[1024];

	vsnprintf(line, sizeof(line), format, ap);
	fprintf(stderr, "wtload: %s%s%s\n", line, cause ? ": " : "", cause ? cause : "");
}

/* _exit: another thread may sit in a database that can no longer be closed. */
void
die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap, NULL);
	va_end(ap);
	_exit(EXIT_LOAD);
}

void
die_errno(const char *format, ...)
{
	const char *cause = strerror(errno);
	va_list ap;

	va_start(ap, format);
	say(format, ap, cause);
	va_end(ap);
	_exit(EXIT_LOAD);
}
