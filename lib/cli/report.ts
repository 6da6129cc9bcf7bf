import { once } from "node:events";
import path from "node:path";
import { parseArgs } from "node:util";
import { writeReport } from "../monitor/report";
import { serveReport } from "../monitor/server";
import { CommandError } from "./command-error";

/** Writes or serves the report of one or more monitor files. */
export async function report(args: string[]): Promise<number> {
  const { files, output, watch, port, title } = parse(args);
  if (watch) {
    const { server, url } = await serveReport(files, port);
    process.stdout.write(`Report: ${url} (Ctrl-C ends it)\n`);
    process.once("SIGINT", () => {
      server.close();
      server.closeAllConnections();
    });
    await once(server, "close");
    return 0;
  }
  await writeReport(files, output, title === undefined ? {} : { title });
  process.stdout.write(`Report: ${output}\n`);
  return 0;
}

interface Arguments {
  files: string[];
  output: string;
  watch: boolean;
  port: number;
  title: string | undefined;
}

/** @throws CommandError */
function parse(args: string[]): Arguments {
  const { values, positionals: files } = parseOptions(args);
  const { output, watch = false, port, title } = values;
  const [first] = files;
  if (first === undefined) throw new CommandError("`mtadam report` must get the file of a BalanceMonitor.");
  if (watch && (output ?? title) !== undefined) {
    throw new CommandError("`mtadam report --watch` takes no --output and no --title.");
  }
  if (port !== undefined && !watch) throw new CommandError("--port is for `mtadam report --watch`.");
  if (port !== undefined && !(/^\d+$/.test(port) && Number(port) <= 65535)) {
    throw new CommandError(`--port must be a number from 0 to 65535; got ${JSON.stringify(port)}.`);
  }
  const { dir, name } = path.parse(first);
  return { files, output: output ?? path.join(dir, `${name}.html`), watch, port: Number(port ?? 0), title };
}

function parseOptions(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        output: { type: "string", short: "o" },
        title: { type: "string" },
        watch: { type: "boolean" },
        port: { type: "string" },
      },
    });
  } catch (error) {
    throw new CommandError((error as Error).message);
  }
}
