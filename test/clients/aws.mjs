/* @aws-sdk/client-kms. */
import { fromBase64, serve, settings, toBase64 } from "./protocol.mjs";
import { DecryptCommand, DescribeKeyCommand, EncryptCommand, GenerateDataKeyCommand, KMSClient } from "@aws-sdk/client-kms";

const client = new KMSClient({
    region: settings.region,
    credentials: { accessKeyId: settings.id, secretAccessKey: settings.secret, sessionToken: settings.token },
    maxAttempts: 1,
});

function wrapped({ KeyId, CiphertextBlob, Plaintext }) {
    return { key: KeyId, ciphertext: toBase64(CiphertextBlob), plaintext: Plaintext && toBase64(Plaintext) };
}

await serve({
    generate: async ({ key, context, length }) => wrapped(await client.send(new GenerateDataKeyCommand({
        KeyId: key, NumberOfBytes: length, EncryptionContext: context }))),
    encrypt: async ({ key, context, plaintext }) => wrapped(await client.send(new EncryptCommand({
        KeyId: key, Plaintext: fromBase64(plaintext), EncryptionContext: context }))),
    decrypt: async ({ key, context, ciphertext }) => {
        const { KeyId, Plaintext } = await client.send(new DecryptCommand({
            KeyId: key, CiphertextBlob: fromBase64(ciphertext), EncryptionContext: context }));
        return { key: KeyId, plaintext: toBase64(Plaintext) };
    },
    describe: async ({ key }) => {
        const { KeyMetadata } = await client.send(new DescribeKeyCommand({ KeyId: key }));
        return { key: KeyMetadata.KeyId, state: KeyMetadata.KeyState, created: KeyMetadata.CreationDate.toISOString() };
    },
});
