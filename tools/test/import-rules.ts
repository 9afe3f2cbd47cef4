// Who may import whom. Imports point inward: main -> server, adapters -> domain; services meet only through proto/.
import { dirname, join } from 'node:path';

export interface Breach {
  readonly file: string;
  readonly specifier: string;
  readonly rule: string;
}

const specifiers =
  /^\s*(?:import|export)\b[^'"]*?\bfrom\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm;

// What a decision may not touch: the outside world, by the system or by the kit. Naming a step, so that it shows in a
// trace, is not that.
const outside = [
  /^node:(fs|fs\/promises|child_process|net|http|http2|https|dgram|dns|worker_threads)$/,
  /^(@grpc\/|nice-grpc|knex$|pg$|undici$)/,
  /^@wrenn\/kit\/(lanes|rpc-server|rpc-adapter|run-program|durable-file|health|reflection|telemetry\/(?!(span|failures|causes|waterfall)$))/,
];

// Paths are relative to the repository root.
export function breachesOf(file: string, source: string): Breach[] {
  const breaches: Breach[] = [];
  for (const match of source.matchAll(specifiers)) {
    const specifier = match[1] ?? match[2] ?? match[3] ?? '';
    const rule = brokenRule(file, specifier);
    if (rule) breaches.push({ file, specifier, rule });
  }
  return breaches;
}

function brokenRule(file: string, specifier: string): string | undefined {
  const [area, owner] = file.split('/');
  const target = specifier.startsWith('.') ? join(dirname(file), specifier) : packagePath(specifier);
  if (target.startsWith('proto/gen/')) return 'generated code is imported as @wrenn/proto/…';
  if (area !== 'services' || !owner) return undefined;
  const [targetArea, targetOwner] = target.split('/');
  const isTest = file.endsWith('.test.ts') || file.includes('/test/');
  // Tests run on the database that `up` starts.
  if (isTest && target === 'tools/cli/embedded-postgres') return undefined;
  if (targetArea === 'tools' || targetArea === 'images') return 'services import no tools';
  if (targetArea === 'services' && targetOwner !== owner && targetOwner !== 'kit')
    return owner === 'kit' ? 'the kit imports no service' : 'services meet only through proto/';
  return isTest ? undefined : brokenLayer(file, owner, specifier, target);
}

function brokenLayer(file: string, owner: string, specifier: string, target: string): string | undefined {
  const layer = layerOf(file, owner);
  const targetLayer = layerOf(target, owner);
  if (targetLayer === 'main') return 'nothing imports main';
  if (layer === 'domain' && (targetLayer === 'adapter' || targetLayer === 'server'))
    return 'domain imports only domain';
  if (layer === 'domain' && outside.some((pattern) => pattern.test(specifier))) return 'domain does no I/O';
  if (layer === 'adapter' && targetLayer === 'server') return 'adapters import domain, not servers';
  if (layer === 'server' && targetLayer === 'adapter') return 'servers import domain, not adapters';
  return undefined;
}

type Layer = 'main' | 'server' | 'adapter' | 'domain';

function layerOf(path: string, owner: string): Layer | undefined {
  const inside = path.startsWith(`services/${owner}/src/`) ? path.slice(`services/${owner}/src/`.length) : undefined;
  if (inside === undefined || owner === 'kit') return undefined;
  if (inside.startsWith('domain/')) return 'domain';
  if (inside.startsWith('adapters/')) return 'adapter';
  if (/^([a-z-]+-)?server\.ts$/.test(inside)) return 'server';
  if (inside === 'main.ts') return 'main';
  return undefined;
}

// Workspaces by their package names: @wrenn/cli/x is tools/cli/x.
function packagePath(specifier: string): string {
  const [scope, name, ...rest] = specifier.split('/');
  if (scope !== '@wrenn' || !name) return specifier;
  const area = ['cli', 'bench', 'e2e', 'chaos', 'lab'].includes(name) ? 'tools' : 'services';
  return name === 'proto' ? specifier : [area, name, ...rest].join('/');
}
