// Writes docs/errors.md; with --check, fails when it is not what would be written.
import { glob, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { readMentions, readReasons, renderTable } from './reason-table.ts';

const root = join(import.meta.dirname, '../..');
const page = join(root, 'docs/errors.md');
const head = `# Errors

Every call that fails answers with a gRPC status and, in its details, a \`google.rpc.ErrorInfo\` of domain \`wrenn\` with
one of these reasons. Branch on the reason: texts are for people and may change. Only what is UNAVAILABLE is worth
calling again unchanged; give Create a \`request_id\`, so that doing so never makes a second sandbox. The agent inside a
guest has a domain of its own, \`agent.wrenn\`; what it refuses reaches clients as one of these.

This page is written by \`node tools/docs/errors.ts\` from \`services/kit/src/errors.ts\` and the comments in \`proto/\`.

`;

const protos = (await Array.fromAsync(glob('proto/wrenn/**/*.proto', { cwd: root })))
  .filter((path) => !path.includes('wrenn/agent/'))
  .toSorted();
const mentions = await Promise.all(protos.map(async (path) => readMentions(await readFile(join(root, path), 'utf8'))));
const reasons = readReasons(await readFile(join(root, 'services/kit/src/errors.ts'), 'utf8'));
const text = head + renderTable(reasons, mentions.flat());

if (!process.argv.includes('--check')) await writeFile(page, text);
else if ((await readFile(page, 'utf8').catch(() => '')) !== text) {
  process.stdout.write('docs/errors.md is stale: run `node tools/docs/errors.ts`\n');
  process.exitCode = 1;
}
