/* @alicloud/kms20160120: parameters in the query, RPC signature. A context is the text of a JSON object. */
import { serve, settings } from "./protocol.mjs";
import kms from "@alicloud/kms20160120";
import rpc from "@alicloud/rpc-client";

const client = new kms.default(new rpc.Config({
    accessKeyId: settings.id, accessKeySecret: settings.secret, securityToken: settings.token,
    regionId: settings.region, endpoint: settings.endpoint,
}));

await serve({
    generate: async ({ key, context, length }) => {
        const reply = await client.generateDataKey(new kms.GenerateDataKeyRequest({
            keyId: key, numberOfBytes: length, encryptionContext: context }));
        return { key: reply.keyId, plaintext: reply.plaintext, ciphertext: reply.ciphertextBlob };
    },
    encrypt: async ({ key, context, plaintext }) => {
        const reply = await client.encrypt(new kms.EncryptRequest({ keyId: key, plaintext, encryptionContext: context }));
        return { key: reply.keyId, ciphertext: reply.ciphertextBlob };
    },
    decrypt: async ({ context, ciphertext }) => {
        const reply = await client.decrypt(new kms.DecryptRequest({ ciphertextBlob: ciphertext, encryptionContext: context }));
        return { key: reply.keyId, plaintext: reply.plaintext };
    },
    describe: async ({ key }) => {
        const { keyMetadata } = await client.describeKey(new kms.DescribeKeyRequest({ keyId: key }));
        return { key: keyMetadata.keyId, state: keyMetadata.keyState };
    },
});
