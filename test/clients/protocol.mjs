/*
 * What the vendors' JavaScript clients have in common: a line of JSON in, a line of JSON out.
 *
 *   {"op": "generate" | "encrypt" | "decrypt" | "describe", "key", "context"?, "plaintext"?, "ciphertext"?}
 *   {"plaintext"?, "ciphertext"?, "key"?, ...}  or  {"error": {"class", "classes", ...}}
 *
 * Bytes are base64. The environment variable KMSENV_CLIENT is {"hosts": {NAME: PORT}, ...} and what else
 * a client asks for. Clients talk to their vendors' own host names; the only thing that is not as in
 * production is that a connection to port 443 of such a name ends at a port of this machine.
 */
import net from "node:net";
import readline from "node:readline";

export const settings = JSON.parse(process.env.KMSENV_CLIENT);

const connect = net.Socket.prototype.connect;

net.Socket.prototype.connect = function (...args) {
    const options = Array.isArray(args[0]) ? args[0][0] : args[0];   // an array: from net.connect() itself
    const port = settings.hosts[options.host];

    if (options.host !== "127.0.0.1" && (port === undefined || Number(options.port) !== 443))
        throw new Error(`a test must not connect to ${options.host}:${options.port}`);
    if (port !== undefined)
        Object.assign(options, { host: "127.0.0.1", port });
    return connect.apply(this, args);
};

export const fromBase64 = text => Buffer.from(text, "base64");
export const toBase64 = bytes => Buffer.from(bytes).toString("base64");

/* An exception with the names of its classes, so that a test can tell the vendor's own from any other. */
function errorOf(fault) {
    const classes = [];

    for (let type = fault?.constructor; type?.name; type = Object.getPrototypeOf(type))
        classes.push(type.name);
    const { name, code, statusCode, httpCode, requestId, $metadata, $fault, reason, details } = fault;
    return {
        classes, name, code, message: String(fault?.message ?? fault), fault: $fault, reason, details,
        status: statusCode ?? httpCode ?? $metadata?.httpStatusCode,
        requestId: requestId ?? $metadata?.requestId,
    };
}

/* Answers requests until the input ends. operations: {name: async (request) => reply}. */
export async function serve(operations) {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const request = JSON.parse(line);
        let reply;

        try {
            reply = await operations[request.op](request);
        } catch (fault) {
            reply = { error: errorOf(fault) };
        }
        process.stdout.write(JSON.stringify(reply) + "\n");
    }
    process.exit(0);
}

console.log = console.info = console.error;   // standard output belongs to the protocol
