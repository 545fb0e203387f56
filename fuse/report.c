/* Refusals in words. One buffer under one lock; the newest sentence wins. */
#include "report.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char last[1024];
static bool has_terminal = true;

static void remember(const char *format, va_list arguments)
{
    vsnprintf(last, sizeof last - 1, format, arguments);
    strcat(last, "\n");
}

int report_refusal(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&lock);
    remember(format, arguments);
    pthread_mutex_unlock(&lock);
    va_end(arguments);
    return error;
}

int report_failure(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&lock);
    remember(format, arguments);
    if (has_terminal)
        fprintf(stderr, "ekvfs: %s", last);
    else
        syslog(LOG_ERR, "%s", last);
    pthread_mutex_unlock(&lock);
    va_end(arguments);
    return error;
}

size_t report_last(char *buffer, size_t capacity)
{
    pthread_mutex_lock(&lock);
    size_t size = strlen(last);
    if (size > capacity)
        size = capacity;
    memcpy(buffer, last, size);
    pthread_mutex_unlock(&lock);
    return size;
}

void report_to_syslog(void)
{
    pthread_mutex_lock(&lock);
    has_terminal = false;
    openlog("ekvfs", LOG_PID, LOG_DAEMON);
    pthread_mutex_unlock(&lock);
}
