#include "duo/status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[1024];

/* A message quotes file names and file contents: keep it one line whatever they hold. */
static void keep_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

duo_status duo_fail(duo_status code, const char *format, ...)
{
    char text[sizeof message]; /* an argument may be duo_message() itself */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    keep_one_line(text);
    snprintf(message, sizeof message, "%s", text);
    return code;
}

const char *duo_message(void)
{
    return message;
}

void duo_warn(const char *format, ...)
{
    char text[sizeof message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    keep_one_line(text);
    fprintf(stderr, "duo: warning: %s\n", text);
}
