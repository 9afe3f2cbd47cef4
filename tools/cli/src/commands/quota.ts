import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { Lanes } from '@wrenn/kit/lanes';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';

import { formatBytes, parseBytes, parseCount } from '../output/units.ts';
import { type CommandContext, withExamples } from './context.ts';

interface QuotaFlags {
  readonly scheduler: string;
  readonly sandboxes?: string;
  readonly cpu?: string;
  readonly memory?: string;
  readonly disk?: string;
}

export function quotaCommand(context: CommandContext): Command {
  const command = new Command('quota')
    .description('set what a project may hold at once; what is not named is without limit')
    .argument('<project>', 'whose')
    .option('--sandboxes <n>', 'sandboxes that are not over')
    .option('--cpu <n>', 'their virtual CPUs together')
    .option('--memory <size>', 'their memory together, like 16G')
    .option('--disk <size>', 'their disks together, like 200G')
    // Operators ask the scheduler itself: the public gateway does not offer this.
    .option('--scheduler <address>', 'where the scheduler answers', '127.0.0.1:9471')
    .action(async (project: string, flags: QuotaFlags) => {
      const quota = quotaOf(project, flags);
      const lanes = new Lanes(flags.scheduler, 'the scheduler');
      try {
        await lanes.client('control', SchedulerService).putQuota({ quota }, inMs(10_000));
      } finally {
        lanes.close();
      }
      context.print(describeQuota(quota));
    });
  return withExamples(command, 'wrenn quota team-a --sandboxes 20 --memory 16G', 'wrenn quota team-a');
}

export function quotaOf(project: string, flags: Omit<QuotaFlags, 'scheduler'>) {
  const count = (text: string | undefined, option: string) =>
    text === undefined ? 0 : parseCount(text, option, 1, 1_000_000);
  return {
    project,
    sandboxCount: count(flags.sandboxes, '--sandboxes'),
    vcpuCount: count(flags.cpu, '--cpu'),
    memoryBytes: flags.memory === undefined ? 0n : parseBytes(flags.memory),
    diskBytes: flags.disk === undefined ? 0n : parseBytes(flags.disk),
  };
}

export function describeQuota(quota: ReturnType<typeof quotaOf>): string {
  const limits = [
    quota.sandboxCount > 0 && `${quota.sandboxCount} sandboxes`,
    quota.vcpuCount > 0 && `${quota.vcpuCount} vCPUs`,
    quota.memoryBytes > 0n && `${formatBytes(quota.memoryBytes)} of memory`,
    quota.diskBytes > 0n && `${formatBytes(quota.diskBytes)} of disk`,
  ].filter((limit) => limit !== false);
  return `${quota.project}: ${limits.length === 0 ? 'no limits' : `at most ${limits.join(', ')}`}`;
}
