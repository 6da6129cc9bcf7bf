import { lock } from "proper-lockfile";

/** For how long a process waits for another one, in steps of at most a second. */
const RETRIES = { retries: 60, minTimeout: 20, maxTimeout: 1000 };

/** What `body` returns, which no two processes run for the same file at the same time. */
export async function locked<T>(path: string, body: () => Promise<T>): Promise<T> {
  // The file itself need not exist.
  const release = await lock(path, { realpath: false, retries: RETRIES });
  try {
    return await body();
  } finally {
    await release();
  }
}
