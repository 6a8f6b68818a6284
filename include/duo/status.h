#ifndef DUO_STATUS_H
#define DUO_STATUS_H

/**
 * What every function that can fail returns, and the one-line message behind it.
 *
 * duo_fail sets code and message together; callers pass the code on unchanged, so that
 * the line a user reads names the file, key, line or tensor at fault. Messages are kept
 * per thread.
 */
typedef enum duo_status {
    DUO_OK = 0,
    DUO_EINVAL,  /**< input that makes no sense: recipe, option, text, ids, shapes */
    DUO_EIO,     /**< the operating system refused: open, read, write, fsync, rename */
    DUO_EDATA,   /**< a file that is damaged, truncated or of another kind */
    DUO_ENOMEM,  /**< memory */
    DUO_ENUMBER, /**< NaN or infinity where a number was needed */
    DUO_EUSAGE   /**< wrong command line: exit status 2 */
} duo_status;

/** Record the message (one line, no newline) and return code. */
duo_status duo_fail(duo_status code, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/** The message of this thread's last duo_fail, or "". Borrowed; valid until the next duo_fail. */
const char *duo_message(void);

/** Print "duo: warning: ..." as one line on stderr; the program goes on. */
void duo_warn(const char *format, ...) __attribute__((format(printf, 1, 2), cold));

#endif
