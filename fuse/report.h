/* Refusals in words: what errno cannot say. The last one is read from .ekv/last_error; failures
 * that nobody waits for go to the system log as well. One mount is one process. */
#ifndef EKVFS_REPORT_H
#define EKVFS_REPORT_H

#include <stddef.h>

/* Remembers a sentence and returns `error`, an errno. */
int report_refusal(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, and to the system log (or stderr in the foreground): data or a command was lost. */
int report_failure(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Copies the last sentence, ended by a newline; empty if there was none. Returns its length. */
size_t report_last(char *buffer, size_t capacity);

/* From here on there is no terminal: failures go to the system log. */
void report_to_syslog(void);

#endif
