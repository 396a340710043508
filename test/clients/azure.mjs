/* @azure/keyvault-keys. The key is named by its identifier, and a wrap by that of the version that made it. */
import { fromBase64, serve, settings, toBase64 } from "./protocol.mjs";
import { CryptographyClient, KeyClient, parseKeyVaultKeyIdentifier } from "@azure/keyvault-keys";

/* Gives out the token when it is asked for as the service's challenge says. */
const credential = {
    getToken: async (scopes, { tenantId }) => {
        if ([scopes].flat().join() !== settings.scope || tenantId !== settings.tenant)
            throw new Error(`asked for a token for ${scopes} in tenant ${tenantId}`);
        return { token: settings.token, expiresOnTimestamp: Date.now() + 3600e3 };
    },
};
const options = { retryOptions: { maxRetries: 0 } };
const keyOf = id => {
    const { vaultUrl, name, version } = parseKeyVaultKeyIdentifier(id);
    return new KeyClient(vaultUrl, credential, options).getKey(name, { version });
};

await serve({
    encrypt: async ({ key, plaintext, algorithm }) => {
        const { id } = await keyOf(key);
        const reply = await new CryptographyClient(id, credential, options).wrapKey(algorithm, fromBase64(plaintext));
        return { key: reply.keyID, ciphertext: toBase64(reply.result) };
    },
    decrypt: async ({ key, ciphertext, algorithm }) => {
        const reply = await new CryptographyClient(key, credential, options).unwrapKey(algorithm, fromBase64(ciphertext));
        return { key: reply.keyID, plaintext: toBase64(reply.result) };
    },
    describe: async ({ key }) => {
        const { id, keyType, properties } = await keyOf(key);
        return { key: id, kind: keyType, enabled: properties.enabled };
    },
});
