import { Argument, Command, Option } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { messageOf } from '@wrenn/kit/errors';
import { type RpcClient, Lanes } from '@wrenn/kit/lanes';
import { logLevels } from '@wrenn/kit/log';
import { LogLevelService } from '@wrenn/proto/wrenn/admin/v1/log_level';

import { type ServiceName, adminAddress, serviceNames } from '../mesh/options.ts';
import { printable } from '../output/printable.ts';
import { table } from '../output/table.ts';
import { type CommandContext, withExamples } from './context.ts';

type LevelClient = RpcClient<(typeof LogLevelService)['method']>;

const limitMs = 5000;

export function logLevelCommand(context: CommandContext): Command {
  const command = new Command('log-level')
    .description('show or change what the services on this machine log; until they restart')
    .addArgument(new Argument('[service]', 'one of them').choices(serviceNames))
    .addArgument(new Argument('[level]', 'the level from now on').choices(logLevels))
    .addOption(new Option('--run-dir <dir>', 'of the mesh (default: WRENN_RUN_DIR, else /run/wrenn)'))
    .action(async (service: ServiceName | undefined, level: string | undefined, flags: { runDir?: string }) => {
      const runDir = flags.runDir ?? context.config.runDir;
      if (service === undefined) {
        const rows = await Promise.all(serviceNames.map(async (name) => [name, await levelOrWhyNot(runDir, name)]));
        context.print(table(['SERVICE', 'LEVEL'], rows));
      } else if (level === undefined) {
        context.print(await asking(runDir, service, levelOf));
      } else {
        const set = (levels: LevelClient) => levels.setLogLevel({ level }, inMs(limitMs));
        const { previousLevel } = await asking(runDir, service, set);
        context.tell(`${service}: ${printable(previousLevel)} before, ${level} now`);
      }
    });
  return withExamples(command, 'wrenn log-level', 'wrenn log-level vm-runtime debug');
}

async function levelOf(levels: LevelClient): Promise<string> {
  return printable((await levels.getLogLevel({}, inMs(limitMs))).level);
}

async function levelOrWhyNot(runDir: string, service: ServiceName): Promise<string> {
  try {
    return await asking(runDir, service, levelOf);
  } catch (error) {
    return `not told: ${messageOf(error)}`;
  }
}

async function asking<T>(runDir: string, service: ServiceName, ask: (levels: LevelClient) => Promise<T>): Promise<T> {
  const lanes = new Lanes(adminAddress(runDir, service), service);
  try {
    return await ask(lanes.client('control', LogLevelService));
  } finally {
    lanes.close();
  }
}
