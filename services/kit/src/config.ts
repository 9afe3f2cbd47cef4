// Configuration comes from the environment only. Every unknown, missing or bad variable is reported at
// once: an operator fixes a file, not one line per restart.
import { z } from 'zod';

import { logLevels } from './log.ts';

const prefix = 'WRENN_';

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

// What every service reads, beside its own fields.
export const commonShape = {
  logLevel: z.enum(logLevels).default('info'),
  // Where /metrics and /healthz are served over HTTP; nowhere unless set.
  metricsListen: z
    .string()
    .regex(/^[^/\s]+:\d{1,5}$/, 'must be host:port')
    .optional(),
  // Where the process itself may be told things over gRPC; nowhere unless set.
  adminListen: z
    .string()
    .regex(/^unix:\/.+$/, 'must be unix:/path')
    .optional(),
};

// Parses `WRENN_*` variables by a shape: field `createTimeoutMs` reads WRENN_CREATE_TIMEOUT_MS.
export function readConfig<S extends z.ZodRawShape>(
  shape: S,
  env: NodeJS.ProcessEnv,
): Readonly<z.infer<z.ZodObject<S>>> {
  const known = new Map(Object.keys(shape).map((field) => [variableOf(field), field]));
  const given: Record<string, string> = {};
  const problems: string[] = [];
  for (const [variable, value] of Object.entries(env)) {
    if (!variable.startsWith(prefix) || value === undefined) continue;
    const field = known.get(variable);
    if (field === undefined) problems.push(`${variable}: unknown variable; known are ${[...known.keys()].join(', ')}`);
    else given[field] = value;
  }
  const parsed = z.object(shape).safeParse(given);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const field = String(issue.path[0]);
      problems.push(`${variableOf(field)}: ${field in given ? issue.message : 'must be set'}`);
    }
  }
  if (problems.length > 0 || !parsed.success) throw new ConfigError(problems.join('\n'));
  return Object.freeze(parsed.data);
}

export function variableOf(field: string): string {
  return prefix + field.replaceAll(/([A-Z])/g, '_$1').toUpperCase();
}

// A whole number within bounds, given as text.
export function wholeNumber(min: number, max: number) {
  return z
    .string()
    .regex(/^\d+$/, 'must be a whole number')
    .transform(Number)
    .refine((value) => value >= min && value <= max, `must be ${min} to ${max}`);
}

export function absolutePath() {
  return z.string().startsWith('/', 'must be an absolute path');
}

// Where browsers and other plain HTTP clients reach a service.
export function httpOrigin() {
  return z.string().regex(/^https?:\/\/[^/?#\s]+$/, 'must be http://host:port or https://host');
}

export function domainName() {
  return z.string().regex(/^[a-z0-9-]+(\.[a-z0-9-]+)*$/, 'must be a domain name in lower case');
}

// Where a service listens or a peer serves: `host:port` or `unix:/path`.
export function rpcAddress() {
  return z.string().regex(/^(unix:\/.+|[^/\s]+:\d{1,5})$/, 'must be host:port or unix:/path');
}
