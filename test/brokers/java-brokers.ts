/** Brokers that are Java libraries: what Maven has to fetch, and the program around them. */

function pomOf(...artifacts: string[]): string {
  const dependencies = artifacts.map((artifact) => {
    const [group, name, version] = artifact.split(":");
    return `<dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version></dependency>`;
  });
  return `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>merklekv</groupId><artifactId>broker</artifactId><version>1</version>
<dependencies>${dependencies.join("\n")}</dependencies></project>
`;
}

const HIVEMQ_VERSION = "2025.5";
/** HiveMQ's community edition. Its program is started with a port and a directory, as all here. */
export const HIVEMQ = {
  version: HIVEMQ_VERSION,
  advice: "Nothing.",
  pom: pomOf(`com.hivemq:hivemq-community-edition-embedded:${HIVEMQ_VERSION}`),
  program: `
import com.hivemq.embedded.EmbeddedHiveMQ;
import java.nio.file.*;

public class Broker {
  public static void main(String[] args) throws Exception {
    Path home = Path.of(args[1]);
    Path configuration = Files.createDirectories(home.resolve("conf"));
    Path data = Files.createDirectories(home.resolve("data"));
    Path extensions = Files.createDirectories(home.resolve("extensions"));
    Files.writeString(configuration.resolve("config.xml"),
      "<hivemq><listeners><tcp-listener><port>" + args[0] + "</port>"
      + "<bind-address>127.0.0.1</bind-address></tcp-listener></listeners>"
      + "<anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>"
      + "<persistence><mode>in-memory</mode></persistence></hivemq>");
    EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder()
      .withConfigurationFolder(configuration).withDataFolder(data).withExtensionsFolder(extensions)
      .build();
    broker.start().join();
    Thread.currentThread().join();
  }
}
`,
};

const MOQUETTE_VERSION = "0.17";
/** Moquette. */
export const MOQUETTE = {
  version: MOQUETTE_VERSION,
  advice:
    "Its limit of 8,092 bytes is found out by lost connections: raise `netty.mqtt.message_size`, or set `mqtt.max_packet_bytes`.",
  pom: pomOf(`io.moquette:moquette-broker:${MOQUETTE_VERSION}`),
  program: `
import io.moquette.broker.Server;
import io.moquette.broker.config.MemoryConfig;
import java.util.Properties;

public class Broker {
  public static void main(String[] args) throws Exception {
    Properties settings = new Properties();
    settings.setProperty("host", "127.0.0.1");
    settings.setProperty("port", args[0]);
    settings.setProperty("allow_anonymous", "true");
    settings.setProperty("data_path", args[1]);
    settings.setProperty("persistence_enabled", "false");
    settings.setProperty("telemetry_enabled", "false");
    new Server().startServer(new MemoryConfig(settings));
    Thread.currentThread().join();
  }
}
`,
};

const ARTEMIS_VERSION = "2.42.0";
/** Apache Artemis. */
export const ARTEMIS = {
  version: ARTEMIS_VERSION,
  advice: "Nothing.",
  pom: pomOf(
    `org.apache.activemq:artemis-server:${ARTEMIS_VERSION}`,
    `org.apache.activemq:artemis-mqtt-protocol:${ARTEMIS_VERSION}`,
  ),
  program: `
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;

public class Broker {
  public static void main(String[] args) throws Exception {
    EmbeddedActiveMQ broker = new EmbeddedActiveMQ();
    broker.setConfiguration(new ConfigurationImpl()
      .setPersistenceEnabled(false).setSecurityEnabled(false)
      .setJournalDirectory(args[1]).setBindingsDirectory(args[1]).setPagingDirectory(args[1])
      .setLargeMessagesDirectory(args[1])
      .addAcceptorConfiguration("mqtt", "tcp://127.0.0.1:" + args[0] + "?protocols=MQTT"));
    broker.start();
    Thread.currentThread().join();
  }
}
`,
};
