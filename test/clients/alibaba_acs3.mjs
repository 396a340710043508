/* @alicloud/openapi-client, which all newer clients of the vendor are made with: ACS3 signature. */
import { serve, settings } from "./protocol.mjs";
import openapi from "@alicloud/openapi-client";
import util from "@alicloud/tea-util";

const client = new openapi.default(new openapi.Config({
    accessKeyId: settings.id, accessKeySecret: settings.secret, securityToken: settings.token,
    regionId: settings.region, endpoint: settings.endpoint,
}));

/* The parameters go where settings.parameters says: "query" or "body". */
async function call(action, parameters) {
    const given = Object.fromEntries(Object.entries(parameters).filter(([, value]) => value !== undefined));
    const reply = await client.callApi(
        new openapi.Params({ action, version: "2016-01-20", protocol: "HTTPS", pathname: "/", method: "POST", authType: "AK",
                             style: "RPC", reqBodyType: "formData", bodyType: "json" }),
        new openapi.OpenApiRequest({ [settings.parameters]: given }), new util.RuntimeOptions({}));
    const { KeyId, Plaintext, CiphertextBlob, KeyMetadata } = reply.body;

    return KeyMetadata ? { key: KeyMetadata.KeyId, state: KeyMetadata.KeyState }
                       : { key: KeyId, plaintext: Plaintext, ciphertext: CiphertextBlob };
}

await serve({
    generate: ({ key, context, length }) => call("GenerateDataKey", { KeyId: key, NumberOfBytes: length, EncryptionContext: context }),
    encrypt: ({ key, context, plaintext }) => call("Encrypt", { KeyId: key, Plaintext: plaintext, EncryptionContext: context }),
    decrypt: ({ context, ciphertext }) => call("Decrypt", { CiphertextBlob: ciphertext, EncryptionContext: context }),
    describe: ({ key }) => call("DescribeKey", { KeyId: key }),
});
