import { createServer, type Server } from "node:http";
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
  const server = createServer((request, response) => {
    const { port } = server.address() as { port: number };
    // A page of another site may reach this server under a name of its own that resolves to this machine.
    const isOwn = [`127.0.0.1:${port}`, `localhost:${port}`].includes(request.headers.host ?? "");
    const send = (status: number, type: string, body: string): void => {
      response.writeHead(status, {
        "content-type": `${type}; charset=utf-8`,
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
      });
      response.end(body);
    };
    if (!isOwn || request.method !== "GET") {
      send(403, "text/plain", "Forbidden\n");
      return;
    }
    const answer = async (): Promise<void> => {
      const data = await reportData(files);
      if (request.url === "/") send(200, "text/html", await reportPage(data, true));
      else if (request.url === "/data.json") send(200, "application/json", JSON.stringify(data));
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
