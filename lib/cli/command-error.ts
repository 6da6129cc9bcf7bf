/** A command line that is wrong. The message is the one sentence that its user gets. */
export class CommandError extends Error {}
