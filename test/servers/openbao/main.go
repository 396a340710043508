// OpenBao's core, its HTTP interface, the engine transit and the sign-in AppRole, out of OpenBao's own packages, in memory and
// unsealed: what `bao server -dev` does, without the storage, plugins and clouds that make the whole program slow to compile.
//
//	openbao ADDRESS CERTIFICATE-AND-KEY ROOT-TOKEN
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/openbao/openbao/builtin/credential/approle"
	"github.com/openbao/openbao/builtin/logical/transit"
	"github.com/openbao/openbao/command/server"
	"github.com/openbao/openbao/helper/namespace"
	vaulthttp "github.com/openbao/openbao/http"
	"github.com/openbao/openbao/internalshared/configutil"
	"github.com/openbao/openbao/sdk/v2/helper/consts"
	"github.com/openbao/openbao/sdk/v2/logical"
	"github.com/openbao/openbao/sdk/v2/physical/inmem"
	"github.com/openbao/openbao/vault"
)

var factories = map[consts.PluginType]map[string]logical.Factory{
	consts.PluginTypeSecrets:    {"transit": transit.Factory},
	consts.PluginTypeCredential: {"approle": approle.Factory},
}

// registry tells the core what there is to be mounted.
type registry struct{}

func (registry) Contains(name string, kind consts.PluginType) bool {
	return factories[kind][name] != nil
}

func (registry) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	return func() (interface{}, error) { return factories[kind][name], nil }, factories[kind][name] != nil
}

func (registry) Keys(kind consts.PluginType) (names []string) {
	for name := range factories[kind] {
		names = append(names, name)
	}
	return names
}

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

func core(log hclog.Logger) (*vault.Core, error) {
	storage, err := inmem.NewInmem(nil, log)
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		BuiltinRegistry:    registry{},
		LogicalBackends:    factories[consts.PluginTypeSecrets],
		CredentialBackends: factories[consts.PluginTypeCredential],
		RawConfig:          &server.Config{SharedConfig: &configutil.SharedConfig{}},
		Logger:             log,
	})
}

// unseal initializes the core with a single key, opens it with that, and makes the root token known by the given name.
func unseal(core *vault.Core, token string) error {
	ctx := namespace.RootContext(context.Background())
	made, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1, StoredShares: 1},
	})
	if err != nil {
		return err
	}
	if open, err := core.Unseal(append([]byte(nil), made.SecretShares[0]...)); err != nil || !open {
		return fmt.Errorf("not unsealed: %v", err)
	}
	reply, err := core.HandleRequest(ctx, &logical.Request{
		ID:          "dev-gen-root",
		Operation:   logical.UpdateOperation,
		ClientToken: made.RootToken,
		Path:        "auth/token/create",
		Data:        map[string]interface{}{"id": token, "policies": []string{"root"}, "no_parent": true, "no_default_policy": true},
	})
	if err == nil && reply.IsError() {
		err = reply.Error()
	}
	return err
}

func run(address, pem, token string) error {
	log := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Info})
	bao, err := core(log)
	if err != nil {
		return err
	}
	if err := unseal(bao, token); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(pem, pem)
	if err != nil {
		return err
	}
	serve := http.Server{
		Addr: address,
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core: bao, ListenerConfig: &configutil.Listener{Type: "tcp", Address: address},
		}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	}
	return serve.ListenAndServeTLS("", "")
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: openbao ADDRESS CERTIFICATE-AND-KEY ROOT-TOKEN")
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "openbao:", run(os.Args[1], os.Args[2], os.Args[3]))
	os.Exit(1)
}
