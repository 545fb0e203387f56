/* Lines from a terminal, edited by whoever types them, with completion and what was typed before.
 */
#ifndef EKV_TOOL_PROMPT_H
#define EKV_TOOL_PROMPT_H

/* The next word that completes `text`: with `again` 0 the first, then the others, NULL after the
 * last. The prompt frees it. */
typedef char *prompt_completion(const char *text, int again);

/* Sets what completes the first word of a line, and the others. */
void prompt_open(prompt_completion *first, prompt_completion *others);

/* Prints `text` and reads a line, which the caller frees, without its newline. NULL at the end. */
char *prompt_line(const char *text);

#endif
