/** An invalid command line. The user sees only the message, one sentence. */
export class CommandError extends Error {}
