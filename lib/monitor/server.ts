import { createServer, type IncomingMessage, type Server } from "node:http";
import type { PageData } from "./page-data";
import { reportData, reportPage } from "./report";

/**
 * Serves the report of files that grow, on the loopback interface only. The page asks for new data while it is open.
 *
 * @param port 0: any free one
 */
export async function serveReport(
  files: readonly string[],
  port: number,
): Promise<{ server: Server; url: string }> {
  // Requests that come meanwhile share one reading of the files.
  let reading: Promise<PageData> | undefined;
  const read = (): Promise<PageData> =>
    (reading ??= reportData(files).finally(() => {
      reading = undefined;
    }));
  const server = createServer((request, response) => {
    const send = (status: number, type: string, body: string): void => {
      response.writeHead(status, {
        "content-type": `${type}; charset=utf-8`,
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
      });
      response.end(body);
    };
    const { port } = server.address() as { port: number };
    if (!isOwn(request, port) || request.method !== "GET") {
      send(403, "text/plain", "Forbidden\n");
      return;
    }
    const answer = async (): Promise<void> => {
      if (request.url === "/") send(200, "text/html", await reportPage(await read(), true));
      else if (request.url === "/data.json") send(200, "application/json", JSON.stringify(await read()));
      else send(404, "text/plain", "Not found\n");
    };
    answer().catch((error: unknown) => send(500, "text/plain", `${String(error)}\n`));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return { server, url: `http://127.0.0.1:${(server.address() as { port: number }).port}/` };
}

/**
 * Whether a request is the user's or the page's: a page of another site may reach this server under a name of its own that
 * resolves to this machine, or by an image of this address.
 */
function isOwn({ headers }: IncomingMessage, port: number): boolean {
  const { host = "" } = headers;
  const from = headers["sec-fetch-site"] ?? "none";
  const names = ["127.0.0.1", "localhost"];
  const isHost = names.some((name) => host === `${name}:${port}` || (port === 80 && host === name));
  return isHost && ["none", "same-origin"].includes(from);
}
