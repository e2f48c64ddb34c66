/* A plug-in that a program opens by its path; it needs a symbol that nobody links it with. */
extern int natives_shared(void);

int plugin_answer(void) { return natives_shared() + 1; }
