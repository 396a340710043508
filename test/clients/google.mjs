/* @google-cloud/kms, over REST, as a service account that signs its own tokens. The service makes no data keys. */
import { fromBase64, serve, settings, toBase64 } from "./protocol.mjs";
import { KeyManagementServiceClient } from "@google-cloud/kms";
import { GoogleError } from "google-gax";

const client = new KeyManagementServiceClient({ fallback: true, credentials: settings.account, projectId: settings.account.project_id });

/* Over REST the client hands on the body of an error as it is: the vendor's own reader of such bodies makes its exception of it. */
const read = call => async request => {
    try {
        return await call(request);
    } catch (fault) {
        throw fault.constructor.name === "GaxiosError" ? GoogleError.parseHttpError(JSON.parse(fault.message)) : fault;
    }
};

await serve({
    encrypt: read(async ({ key, aad, plaintext, sum }) => {
        const [reply] = await client.encrypt({
            name: key, plaintext: fromBase64(plaintext), additionalAuthenticatedData: aad && fromBase64(aad),
            plaintextCrc32c: sum && { value: sum } });
        return { key: reply.name, ciphertext: toBase64(reply.ciphertext), sum: reply.ciphertextCrc32c?.value,
                 verified: reply.verifiedPlaintextCrc32c };
    }),
    decrypt: read(async ({ key, aad, ciphertext }) => {
        const [reply] = await client.decrypt({
            name: key, ciphertext: fromBase64(ciphertext), additionalAuthenticatedData: aad && fromBase64(aad) });
        return { plaintext: toBase64(reply.plaintext), sum: reply.plaintextCrc32c?.value };
    }),
    describe: read(async ({ key }) => {
        const [reply] = await client.getCryptoKey({ name: key });
        return { key: reply.name, purpose: reply.purpose, state: reply.primary.state, version: reply.primary.name };
    }),
});
