// A stack of a program that was bundled (docs/decisions/0019-bundled-programs.md), with positions in its sources. Node
// does the like by --enable-source-maps, but takes 0.1 s of processor time of each start for it; here a map is read for the
// first stack that somebody is to see.
import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import { dirname, resolve } from 'node:path';

const position = /(?:file:\/\/)?(\/[^\s()]+\.js):(\d+):(\d+)/g;
const maps = new Map<string, SourceMap | undefined>();

// What has no map is left as it is.
export function withSourcePositions(stack: string): string {
  return stack.replace(position, (bundled, file: string, line: string, column: string) => {
    const entry = mapOf(file)?.findEntry(Number(line) - 1, Number(column) - 1);
    // For a line that has no source it finds the last one before that has.
    if (!entry || !('originalSource' in entry) || entry.generatedLine !== Number(line) - 1) return bundled;
    const source = resolve(dirname(file), entry.originalSource);
    return `${source}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
  });
}

function mapOf(file: string): SourceMap | undefined {
  if (!maps.has(file)) maps.set(file, readMap(`${file}.map`));
  return maps.get(file);
}

function readMap(mapFile: string): SourceMap | undefined {
  try {
    return new SourceMap(JSON.parse(readFileSync(mapFile, 'utf8')) as SourceMapPayload);
  } catch {
    return undefined; // It has none, as most packages' files.
  }
}
