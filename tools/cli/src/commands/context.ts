// What a command is given to work with, and the options that several of them share.
import { type Command, Option } from 'commander';

import { MeshClient } from '../client.ts';
import type { CliConfig } from '../config.ts';

export interface CommandContext {
  readonly config: CliConfig;
  readonly env: NodeJS.ProcessEnv;
  // One line of result, on stdout.
  print(line: string): void;
  // One line about what is going on, on stderr.
  tell(line: string): void;
}

export interface GatewayOption {
  readonly gateway?: string;
}

export function gatewayOption(): Option {
  return new Option('--gateway <address>', 'where the mesh answers (default: WRENN_GATEWAY, else 127.0.0.1:9470)');
}

export function openClient(context: CommandContext, options: GatewayOption): MeshClient {
  const { gateway, gatewayBulk } = context.config;
  return options.gateway === undefined ? new MeshClient(gateway, gatewayBulk) : new MeshClient(options.gateway);
}

export function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}

export function withExamples(command: Command, ...examples: string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${examples.map((line) => `  ${line}`).join('\n')}`);
}
