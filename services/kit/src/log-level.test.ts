import { LogLevelService } from '@wrenn/proto/wrenn/admin/v1/log_level';
import { expect, test, vi } from 'vitest';

import { inMs } from './deadlines.ts';
import { logLevelHandlers } from './log-level.ts';
import { openLog } from './log.ts';
import { serveForTest } from './testkit/serve.ts';

test('a level is told, changed at once, and told to whoever logs elsewhere', async () => {
  const log = openLog('test', 'silent');
  const onChange = vi.fn<(level: string) => void>();
  await using server = await serveForTest(LogLevelService, logLevelHandlers(log, onChange));
  const levels = server.lanes.client('control', LogLevelService);
  expect(await levels.getLogLevel({}, inMs(5000))).toMatchObject({ level: 'silent' });
  expect(await levels.setLogLevel({ level: 'error' }, inMs(5000))).toMatchObject({ previousLevel: 'silent' });
  expect(log.level).toBe('error');
  expect(onChange.mock.calls).toEqual([['error']]);
});

test('a level that there is not is refused and changes nothing', async () => {
  const log = openLog('test', 'silent');
  await using server = await serveForTest(LogLevelService, logLevelHandlers(log));
  const refused = server.lanes.client('control', LogLevelService).setLogLevel({ level: 'loud' }, inMs(5000));
  await expect(refused).rejects.toMatchObject({ reason: 'INVALID_FIELD' });
  expect(log.level).toBe('silent');
});
