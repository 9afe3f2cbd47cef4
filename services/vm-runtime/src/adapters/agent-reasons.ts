import type { PeerReasons } from '@wrenn/kit/rpc-errors';

// The guest agent's reasons, as wrenn.v1 names them. What has no name there becomes one by its status code.
export const agentReasons: PeerReasons = {
  domain: 'agent.wrenn',
  reasons: {
    BAD_COMMAND: 'INVALID_FIELD',
    BAD_CWD: 'CWD_NOT_FOUND',
    BAD_ENV: 'INVALID_FIELD',
    BAD_INPUT: 'INVALID_FIELD',
    BAD_SELECTOR: 'INVALID_FIELD',
    BAD_SIGNAL: 'INVALID_FIELD',
    BAD_TAG: 'INVALID_FIELD',
    COMMAND_NOT_EXECUTABLE: 'COMMAND_NOT_EXECUTABLE',
    COMMAND_NOT_FOUND: 'COMMAND_NOT_FOUND',
    COMMAND_NOT_PERMITTED: 'COMMAND_NOT_EXECUTABLE',
    CWD_NOT_PERMITTED: 'CWD_NOT_FOUND',
    HAS_PTY: 'STDIN_CLOSED',
    NO_PROCESS_LEFT: 'GUEST_EXHAUSTED',
    PROCESS_NOT_FOUND: 'PROCESS_NOT_FOUND',
    STDIN_CLOSED: 'STDIN_CLOSED',
    UNKNOWN_USER: 'USER_NOT_FOUND',
  },
};
