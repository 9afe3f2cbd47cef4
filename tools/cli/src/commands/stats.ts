import { Command, Option } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { msOfDuration, timestampDate } from '@wrenn/kit/duration';
import { type MetricsPoint, MetricsSpan } from '@wrenn/proto/wrenn/v1/metrics';

import { table } from '../output/table.ts';
import { formatBytes } from '../output/units.ts';
import { type CommandContext, type GatewayOption, gatewayOption, openClient, withExamples } from './context.ts';

const spans = { '10m': MetricsSpan.TEN_MINUTES, '2h': MetricsSpan.TWO_HOURS, '24h': MetricsSpan.DAY } as const;

interface StatsFlags extends GatewayOption {
  readonly span: keyof typeof spans;
  readonly json?: true;
}

// A point as people and scripts read it: what was used is told by the second.
export interface Stats {
  readonly endTime: string;
  readonly coveredMs: number;
  readonly cpuPercent: number; // 100 is one processor.
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly receivedBytesPerSecond: number;
  readonly sentBytesPerSecond: number;
}

export function statsCommand(context: CommandContext): Command {
  const command = new Command('stats')
    .description('show what a sandbox takes: processor, memory, disk and network, while it ran')
    .argument('<id>', 'sandbox id, or enough of it')
    .addOption(new Option('--span <time>', 'how far back').choices(Object.keys(spans)).default('10m'))
    .option('--json', 'print the points as JSON, one a line')
    .addOption(gatewayOption())
    .action(async (id: string, flags: StatsFlags) => {
      using client = openClient(context, flags);
      const request = { sandboxId: await client.findId(id), span: spans[flags.span] };
      const points = (await client.metrics.read(request, inMs(30_000))).points.map(statsOf);
      if (flags.json) for (const point of points) context.print(JSON.stringify(point));
      else if (points.length === 0) context.tell('nothing was measured yet; it is, every 5 s, while a sandbox runs');
      else context.print(statsTable(points));
    });
  return withExamples(command, 'wrenn stats cl-4f0', 'wrenn stats cl-4f0 --span 24h --json');
}

export function statsOf(point: MetricsPoint): Stats {
  const { endTime, covered, cpuTime, memoryBytes, diskBytes, receivedBytes, sentBytes } = point;
  const coveredMs = covered ? msOfDuration(covered) : 0;
  const perSecond = (count: number) => (coveredMs > 0 ? Math.round((count / coveredMs) * 1000) : 0);
  return {
    endTime: endTime ? timestampDate(endTime).toISOString() : '',
    coveredMs: Math.round(coveredMs),
    cpuPercent: cpuTime && coveredMs > 0 ? Math.round((msOfDuration(cpuTime) / coveredMs) * 1000) / 10 : 0,
    memoryBytes: Number(memoryBytes),
    diskBytes: Number(diskBytes),
    receivedBytesPerSecond: perSecond(Number(receivedBytes)),
    sentBytesPerSecond: perSecond(Number(sentBytes)),
  };
}

function statsTable(points: readonly Stats[]): string {
  const rows = points.map((point) => [
    point.endTime.slice(0, 19).replace('T', ' '),
    `${point.cpuPercent.toFixed(1)} %`,
    formatBytes(point.memoryBytes),
    formatBytes(point.diskBytes),
    `${formatBytes(point.receivedBytesPerSecond)}/s`,
    `${formatBytes(point.sentBytesPerSecond)}/s`,
  ]);
  return table(['UNTIL (UTC)', 'CPU', 'MEMORY', 'DISK', 'RECEIVED', 'SENT'], rows);
}
