package dev.postcopyd.libvirt;

import java.io.IOException;
import java.io.StringReader;
import java.io.StringWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.UUID;
import javax.xml.XMLConstants;
import javax.xml.parsers.DocumentBuilder;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.parsers.ParserConfigurationException;
import javax.xml.transform.OutputKeys;
import javax.xml.transform.Transformer;
import javax.xml.transform.TransformerException;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.dom.DOMSource;
import javax.xml.transform.stream.StreamResult;
import org.jspecify.annotations.Nullable;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.Node;
import org.xml.sax.ErrorHandler;
import org.xml.sax.InputSource;
import org.xml.sax.SAXException;
import org.xml.sax.SAXParseException;

/**
 * A domain's XML, and what is changed in it so that QEMU waits for a migration that libvirt does
 * not know of. Parsed without document types and without external entities: it comes from a file.
 *
 * <p>Not thread-safe.
 */
public final class DomainXml {
  private static final String QEMU = "http://libvirt.org/schemas/domain/qemu/1.0";

  /** How our monitors are called, so that those of an earlier restore are found again. */
  private static final String MONITOR_PREFIX = "postcopyd-";

  private static final String MONITOR_SUFFIX = ".mon";

  private final Document document;

  private DomainXml(Document document) {
    this.document = document;
  }

  /**
   * Parses the XML.
   *
   * @throws IOException with a sentence for the user if it is not a domain's
   */
  public static DomainXml parse(String xml) throws IOException {
    DomainXml domain = new DomainXml(document(xml));
    if (!domain.root().getTagName().equals("domain")) {
      throw new IOException(
          "not a domain's XML: it begins with <" + domain.root().getTagName() + ">");
    }
    String _ = domain.name();
    return domain;
  }

  private static Document document(String xml) throws IOException {
    try {
      DocumentBuilderFactory factory = DocumentBuilderFactory.newDefaultNSInstance();
      factory.setFeature(XMLConstants.FEATURE_SECURE_PROCESSING, true);
      factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
      factory.setXIncludeAware(false);
      factory.setExpandEntityReferences(false);
      DocumentBuilder builder = factory.newDocumentBuilder();
      builder.setErrorHandler(new Strict());
      return builder.parse(new InputSource(new StringReader(xml)));
    } catch (ParserConfigurationException e) {
      throw new IllegalStateException(e);
    } catch (SAXParseException e) {
      throw new IOException(
          "the domain's XML is damaged at line %d, column %d: %s"
              .formatted(e.getLineNumber(), e.getColumnNumber(), e.getMessage()),
          e);
    } catch (SAXException e) {
      throw new IOException("the domain's XML is damaged: " + e.getMessage(), e);
    }
  }

  /** The parser's own handler prints. */
  private static final class Strict implements ErrorHandler {
    @Override
    public void warning(SAXParseException e) {}

    @Override
    public void error(SAXParseException e) throws SAXException {
      throw e;
    }

    @Override
    public void fatalError(SAXParseException e) throws SAXException {
      throw e;
    }
  }

  /** What the socket of a domain's monitor is called. */
  public static String monitorName(UUID domain) {
    return MONITOR_PREFIX + domain + MONITOR_SUFFIX;
  }

  private Element root() {
    return document.getDocumentElement();
  }

  /** The domain's name. */
  public String name() throws IOException {
    return text("name");
  }

  /** Which every saved domain has. */
  public UUID uuid() throws IOException {
    String text = text("uuid");
    try {
      return UUID.fromString(text);
    } catch (IllegalArgumentException e) {
      throw new IOException("the domain's XML has the <uuid> '" + text + "'", e);
    }
  }

  private String text(String tag) throws IOException {
    return child(root(), null, tag)
        .map(element -> element.getTextContent().strip())
        .filter(text -> !text.isEmpty())
        .orElseThrow(() -> new IOException("the domain's XML has no <" + tag + ">"));
  }

  /**
   * Takes over the processor that the guest really had, which libvirt notes down in the cookie:
   * what the XML asks for (host-model, say) may mean another one by now.
   */
  public void useProcessorOf(String cookie) throws IOException {
    Optional<Element> processor = child(document(cookie).getDocumentElement(), null, "cpu");
    if (processor.isEmpty()) {
      return;
    }
    Node ours = document.importNode(processor.get(), true);
    Optional<Element> asked = child(root(), null, "cpu");
    if (asked.isPresent()) {
      root().replaceChild(ours, asked.get());
    } else {
      root().appendChild(ours);
    }
  }

  /** Makes QEMU wait, with a monitor of its own for us. */
  public void waitForMigration(Path monitor) {
    root().setAttributeNS(XMLConstants.XMLNS_ATTRIBUTE_NS_URI, "xmlns:qemu", QEMU);
    Element commandLine =
        child(root(), QEMU, "commandline")
            .orElseGet(() -> (Element) root().appendChild(element("commandline")));
    removeEarlier(commandLine);
    // A comma within a value is doubled.
    String path = monitor.toString().replace(",", ",,");
    for (String argument :
        List.of("-incoming", "defer", "-qmp", "unix:" + path + ",server=on,wait=off")) {
      Element added = element("arg");
      added.setAttribute("value", argument);
      commandLine.appendChild(added);
    }
  }

  /** What an earlier restore has left, for libvirt saves it with everything else. */
  private static void removeEarlier(Element commandLine) {
    List<Element> arguments = children(commandLine, QEMU, "arg");
    for (int i = 0; i + 1 < arguments.size(); i++) {
      String option = arguments.get(i).getAttribute("value");
      String value = arguments.get(i + 1).getAttribute("value");
      if ((option.equals("-incoming") && value.equals("defer"))
          || (option.equals("-qmp") && isOurs(value))) {
        commandLine.removeChild(arguments.get(i));
        commandLine.removeChild(arguments.get(i + 1));
        i++;
      }
    }
  }

  private static boolean isOurs(String monitor) {
    return monitor.startsWith("unix:")
        && monitor.contains("/" + MONITOR_PREFIX)
        && monitor.contains(MONITOR_SUFFIX + ",server=on");
  }

  private Element element(String name) {
    return document.createElementNS(QEMU, "qemu:" + name);
  }

  private static Optional<Element> child(Element parent, @Nullable String namespace, String name) {
    return children(parent, namespace, name).stream().findFirst();
  }

  private static List<Element> children(Element parent, @Nullable String namespace, String name) {
    List<Element> found = new ArrayList<>();
    for (Node node = parent.getFirstChild(); node != null; node = node.getNextSibling()) {
      if (node instanceof Element element
          && name.equals(element.getLocalName())
          && Objects.equals(namespace, element.getNamespaceURI())) {
        found.add(element);
      }
    }
    return found;
  }

  /** For libvirt. */
  @Override
  public String toString() {
    try {
      Transformer transformer = TransformerFactory.newDefaultInstance().newTransformer();
      transformer.setOutputProperty(OutputKeys.OMIT_XML_DECLARATION, "yes");
      StringWriter text = new StringWriter();
      transformer.transform(new DOMSource(document), new StreamResult(text));
      return text.toString();
    } catch (TransformerException e) {
      throw new IllegalStateException(e);
    }
  }
}
