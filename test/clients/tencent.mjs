/* tencentcloud-sdk-nodejs. A context is the text of a JSON object; a ciphertext is text, not base64. */
import { serve, settings } from "./protocol.mjs";
import { kms } from "tencentcloud-sdk-nodejs/tencentcloud/services/kms/index.js";

const client = new kms.v20190118.Client({
    credential: { secretId: settings.id, secretKey: settings.secret, token: settings.token },
    region: settings.region,
});

const bytesOfText = text => Buffer.from(text).toString("base64");
const textOfBytes = bytes => Buffer.from(bytes, "base64").toString();

await serve({
    generate: async ({ key, context, length }) => {
        const reply = await client.GenerateDataKey({ KeyId: key, NumberOfBytes: length, EncryptionContext: context });
        return { key: reply.KeyId, plaintext: reply.Plaintext, ciphertext: bytesOfText(reply.CiphertextBlob) };
    },
    encrypt: async ({ key, context, plaintext }) => {
        const reply = await client.Encrypt({ KeyId: key, Plaintext: plaintext, EncryptionContext: context });
        return { key: reply.KeyId, ciphertext: bytesOfText(reply.CiphertextBlob) };
    },
    decrypt: async ({ context, ciphertext }) => {
        const reply = await client.Decrypt({ CiphertextBlob: textOfBytes(ciphertext), EncryptionContext: context });
        return { key: reply.KeyId, plaintext: reply.Plaintext };
    },
    describe: async ({ key }) => {
        const { KeyMetadata } = await client.DescribeKey({ KeyId: key });
        return { key: KeyMetadata.KeyId, state: KeyMetadata.KeyState };
    },
});
