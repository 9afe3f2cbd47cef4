import type { LogLevelService } from '@wrenn/proto/wrenn/admin/v1/log_level';

import { invalidField } from './errors.ts';
import { type Log, type LogLevel, logLevels } from './log.ts';
import type { RpcHandlers } from './rpc-server.ts';

// `onChange` tells those who log elsewhere for the same process.
export function logLevelHandlers(
  log: Log,
  onChange: (level: LogLevel) => void = () => undefined,
): RpcHandlers<typeof LogLevelService.method> {
  return {
    getLogLevel: async () => ({ level: log.level }),
    async setLogLevel({ level: wanted }) {
      const level = logLevels.find((known) => known === wanted);
      if (level === undefined) throw invalidField('level', `must be one of ${logLevels.join(', ')}`);
      const previousLevel = log.level;
      log.level = level;
      onChange(level);
      log.info({ from: previousLevel, to: level }, 'log level changed');
      return { previousLevel };
    },
  };
}
