// The story with the TypeScript SDK, 1.x or 2.x, of the folder that this is run in.
const require_here = require("node:module").createRequire(process.cwd() + "/");
const task = JSON.parse(process.argv[2]);

function load() {
  if (task.version === 1) {
    const sdk = "@modelcontextprotocol/sdk/client/";
    return {
      ...require_here(sdk + "index.js"),
      ...require_here(sdk + "stdio.js"),
      ...require_here(sdk + "streamableHttp.js"),
    };
  }
  return { ...require_here("@modelcontextprotocol/client"), ...require_here("@modelcontextprotocol/client/stdio") };
}

function show(result) {
  const of_type = (type) => result.content.filter((part) => part.type === type);
  return {
    text: of_type("text").map((part) => part.text).join("\n"),
    images: of_type("image").map((part) => part.mimeType),
    error: Boolean(result.isError),
  };
}

async function main() {
  const { Client, StdioClientTransport, StreamableHTTPClientTransport } = load();
  const options = task.era === "legacy" ? {} : { versionNegotiation: { mode: { pin: task.era } } };
  const client = new Client({ name: "test", version: "1" }, options);
  const transport = task.url
    ? new StreamableHTTPClientTransport(new URL(task.url), { requestInit: { headers: task.headers } })
    : new StdioClientTransport({ command: task.command, args: task.args, env: { ...process.env, ...task.env } });
  await client.connect(transport);
  const list = async () => (await client.listTools()).tools.map((tool) => tool.name);
  const seen = { before: await list(), after: [], answers: [] };
  for (const [name, args] of task.calls) {
    seen.answers.push(show(await client.callTool({ name, arguments: args })));
    if (name === "define_action") seen.after = await list();
  }
  await client.close();
  console.log("\n" + JSON.stringify(seen));
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
