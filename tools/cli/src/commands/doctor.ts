import { Command } from 'commander';

import { inMs } from '@wrenn/kit/deadlines';
import { isRunning } from '@wrenn/kit/process-identity';

import { MeshClient } from '../client.ts';
import { ExitError, exitCodes } from '../exit-codes.ts';
import { isClaimed } from '../mesh/claim.ts';
import { type HostCheck, checkHost } from '../mesh/host-preparation.ts';
import { type MeshOptions, type ServiceName, repositoryRoot } from '../mesh/options.ts';
import { askHealth } from '../mesh/readiness.ts';
import { planServices } from '../mesh/service-plan.ts';
import { readState } from '../mesh/state-file.ts';
import { isFresh, programs } from '../programs/programs.ts';
import { printable } from '../output/printable.ts';
import { table } from '../output/table.ts';
import { formatBytes } from '../output/units.ts';
import { type CommandContext, withExamples } from './context.ts';
import { type MeshFlags, addMeshFlags, meshOptionsOf } from './mesh-options.ts';

export function doctorCommand(context: CommandContext): Command {
  const command = addMeshFlags(new Command('doctor'))
    .description('check this machine and the health of every service, and say what to do')
    .option('--json', 'as JSON')
    .action(async (flags: MeshFlags & { readonly json?: true }) => {
      const options = meshOptionsOf(flags, context);
      const host = await checkHost(options.imagesDir, options.dataDir, context.env['PATH'] ?? '');
      const checks = [...host.map(withRemedy), checkPrograms(), ...(await checkMesh(options))];
      if (flags.json) context.print(JSON.stringify(checks));
      else context.print(report(checks));
      if (checks.some(({ state }) => state === 'bad')) throw new ExitError(exitCodes.failure);
    });
  return withExamples(command, 'wrenn doctor', 'wrenn doctor --json');
}

function withRemedy({ name, state, detail, remedy, repair }: HostCheck): Omit<HostCheck, 'repair'> {
  const advice = remedy ?? (repair && '`wrenn up` sets it right');
  return { name, state, detail, ...(advice !== undefined && { remedy: advice }) };
}

function checkPrograms(): HostCheck {
  const stale = programs.filter((source) => !isFresh(repositoryRoot, source));
  if (stale.length === 0) return { name: 'programs', state: 'ok', detail: 'bundled' };
  const detail = `not bundled as they are, so slower to start: ${stale.join(', ')}`;
  return { name: 'programs', state: 'note', detail, remedy: '`make setup` bundles them' };
}

async function checkMesh(options: MeshOptions): Promise<HostCheck[]> {
  const state = await readState(options.runDir);
  if (!(await isClaimed(options.runDir))) {
    const wasKilled = state !== undefined && !isRunning(state.supervisor);
    const detail = wasKilled ? 'its supervisor was killed' : 'not running';
    return [{ name: 'mesh', state: wasKilled ? 'bad' : 'note', detail, remedy: 'start it with `wrenn up`' }];
  }
  const found: HostCheck[] = [{ name: 'mesh', state: 'ok', detail: `${state?.phase ?? 'starting'}` }];
  const wasStarted = ({ name }: { readonly name: ServiceName }) => !state || name in state.services;
  const answers = await Promise.all(
    planServices({ ...options, keepsTraces: true })
      .filter(wasStarted)
      .map(async (plan): Promise<HostCheck> => {
        const { isServing, detail } = await askHealth(plan);
        const restarts = state?.services[plan.name]?.restartCount ?? 0;
        const told = `${printable(detail)} at ${plan.address}${restarts > 0 ? `, restarted ${restarts} times` : ''}`;
        if (isServing) return { name: plan.name, state: 'ok', detail: told };
        const remedy = `see ${options.runDir}/logs/${plan.name}.log; it is restarted when it dies`;
        return { name: plan.name, state: 'bad', detail: told, remedy };
      }),
  );
  const isGatewayUp = answers.some(({ name, state: answer }) => name === 'gateway' && answer === 'ok');
  return [...found, ...answers, ...(isGatewayUp && state ? await checkHosts(state.addresses.gateway) : [])];
}

async function checkHosts(gateway: string): Promise<HostCheck[]> {
  using client = new MeshClient(gateway);
  const { hosts } = await client.hosts.list({}, inMs(5000));
  return hosts.map((host) => {
    const name = `host ${printable(host.id)}`;
    if (!host.isAlive) return { name, state: 'bad', detail: 'silent for 15 s', remedy: 'is its vm-runtime running?' };
    const { accelerator = '?', vmm = '?', memoryBytes = 0n } = host.capacity ?? {};
    const machine = `${printable(vmm)} with ${printable(accelerator)}`;
    return { name, state: 'ok', detail: `${machine}, ${host.sandboxCount} sandboxes, ${formatBytes(memoryBytes)}` };
  });
}

function report(checks: readonly Omit<HostCheck, 'repair'>[]): string {
  const rows = checks.map(({ name, state, detail, remedy }) => [
    state === 'bad' ? 'BAD' : state,
    name,
    remedy ? `${detail}; ${remedy}` : detail,
  ]);
  return table(['', 'CHECK', 'FOUND'], rows);
}
